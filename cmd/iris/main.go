// Command iris is a node of an Iris network and the tools around it.
package main

func main() {}
