"""Components of a package that is not Colonnade's: some keep the contract, some break it in one way each."""
