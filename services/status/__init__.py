"""The status: folds what the broker knows and which processes live into one picture, published and written down."""
