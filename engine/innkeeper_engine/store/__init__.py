"""The one seam to Redis: scripts that apply decisions atomically, and the connection that carries them."""
