// Package failpoint lets tests make the sink fail at a step of a commit. In
// every other program no step is ever failed.
//
// # Concurrency
//
// Reach may be called from anywhere. Set belongs to a process that runs nothing
// yet.
package failpoint

// The steps of a commit, in their order. A failure at a step comes before what
// the step is named after.
const (
	Write         = "write"          // of a batch into the unfinished file
	Sync          = "sync"           // of the finished file
	Intent        = "intent"         // the next checkpoint is written aside
	Publish       = "publish"        // the file gets its name
	SyncFolder    = "sync-folder"    // which makes that durable
	Checkpoint    = "checkpoint"     // the next checkpoint gets its name
	SyncCommitted = "sync-committed" // which makes that durable
)

// Steps lists all of them.
var Steps = []string{Write, Sync, Intent, Publish, SyncFolder, Checkpoint, SyncCommitted}

var hook func(step string) error

// Set makes every step ask f first; an error that it returns fails the step.
func Set(f func(step string) error) { hook = f }

// Reach is called before each step.
func Reach(step string) error {
	if hook == nil {
		return nil
	}
	return hook(step)
}
