"""Reinforcement learning: a policy that learns from rewards on its own answers."""
