"""What people bring: models, evaluation results, traffic logs, other scenarios."""
