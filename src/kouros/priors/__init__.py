"""What poses and shapes people take: mixtures, joint limits, learned densities. May import geometry, body."""
