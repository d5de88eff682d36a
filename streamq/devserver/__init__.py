"""The bundled server: a Redis server for development, run where no URL is set."""
