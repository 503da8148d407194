"""Where training and evaluation data come from; knows no network."""
