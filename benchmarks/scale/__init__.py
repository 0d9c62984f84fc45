"""What 100 teachers × 1,000 students × 20 tasks would take: counts by the project's own planner."""
