"""From samples to training data: answers grouped, paired, filtered, made unique. No models."""
