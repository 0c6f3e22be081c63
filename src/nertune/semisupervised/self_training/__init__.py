"""Self-training: a teacher labels text, a student learns from it, and a baseline stands beside."""
