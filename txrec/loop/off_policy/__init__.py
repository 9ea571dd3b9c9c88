"""Off-policy estimates from served slates: values of other rankings and orders, position bias, fatigue."""
