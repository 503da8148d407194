"""Where the element is drawn, and how the model sees that part of the background."""
