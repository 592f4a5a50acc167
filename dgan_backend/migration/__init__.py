"""Labels that people already have, as tasks with annotations or as a folder to fit from."""
