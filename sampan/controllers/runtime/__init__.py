"""What every controller needs to run: work queue, workers, supervision."""
