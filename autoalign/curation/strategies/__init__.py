"""How pairs are chosen, one file each: `choose(candidates, rules) -> Choice` (see `..candidates`)."""
