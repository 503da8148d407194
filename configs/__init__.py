"""Training configs (ml-collections): each has `get_config(arg)`, its command and its cost."""
