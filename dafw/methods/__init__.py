"""The methods: one file each; the file's name is what you type after `method=`."""
