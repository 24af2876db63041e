"""The retention worker: what may go of the copies of the model, and the trash."""
