"""`streamae bench`: the product against its references on this machine, interleaved, CPU time first."""
