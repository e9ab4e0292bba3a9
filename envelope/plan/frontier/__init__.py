"""Where the line runs between owning and renting, over two inputs."""
