"""Porto, as a client sees it: the socket, the properties, the forms of their values."""
