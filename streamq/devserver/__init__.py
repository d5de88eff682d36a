"""The server that streamq runs by itself where no URL says which one to use."""
