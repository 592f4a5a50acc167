"""Running it all: child processes, the services they are, threads and memory they compute with."""
