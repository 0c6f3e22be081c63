"""Parameter-efficient fine-tuning: what trains of an encoder."""
