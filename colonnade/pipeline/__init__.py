"""What flows and how: the component contract, outcomes, intake, hand-over log, fan-out, retry."""
