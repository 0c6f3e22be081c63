"""Learning from few and bad labels: self-training, distillation, audit, selection."""
