"""The watcher: owner of ``inbox/``. It takes settled files, stores them, submits them, and only then removes them."""
