"""What a job writes, and the protocol by which a kill at any moment neither loses nor doubles."""
