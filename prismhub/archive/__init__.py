"""Archives: folders of videos that were encoded once, scene by scene, and are searched by words and by example."""
