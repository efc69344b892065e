"""The paper's evidence as commands: one module a study, which says what to train, to measure and to conclude."""
