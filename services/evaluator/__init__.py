"""Scores the model, says what that means, and keeps the champion where others find it."""
