"""Training configs (ml-collections): each file has `get_config(arg)`, and its command and cost in the
docstring.
"""
