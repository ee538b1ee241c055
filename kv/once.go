package kv

type clients struct{ l Limits }

func (c *clients) init(l Limits) { c.l = l }
