"""Configs of ml-collections: each file has `get_config(arg)` and names its command and cost."""
