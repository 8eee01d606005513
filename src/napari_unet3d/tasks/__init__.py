"""Long work as generators: each takes a frozen spec, yields events, and can be stopped at every one of them."""
