"""What do torch's pickled weight files hold? They are read without torch, and nothing in them is run."""
