"""The closed loop: attribution, experiments, exploration, off-policy estimates, drift; plain numpy, without Ray"""
