"""What stands behind the HTTP contract of server.py: routes, predictions, auth, error texts."""
