"""The ruler: how right masks are, of which method, from how many labels."""
