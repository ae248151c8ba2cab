"""Reinforcement learning from the reward model: PPO's equations and loop, rollouts, held-out reward."""
