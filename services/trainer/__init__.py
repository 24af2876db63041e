"""The trainer: an agent without torch that holds the lease, and a training process that changes the model line."""
