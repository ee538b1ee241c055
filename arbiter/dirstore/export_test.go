package dirstore

// Steps of a claim, in order, as SetStep calls them.
var Steps = []string{"make group", "make grant", "name group", "propose", "sync proposal", "grant", "sync grant", "prune"}

// SetStep has f called before each step of a claim.
func (s *Store) SetStep(f func(step string)) { s.step = f }
