"""What is live: messages of a broker, the bounded room before the loop, and the receive window."""
