"""Attribution: events credited to the places of slates, and the figures that follow from it, live ones included."""
