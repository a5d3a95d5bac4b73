"""Commission rules: to draft, to try out on the past, to publish and to end."""
