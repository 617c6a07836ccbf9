//go:build !unix

package connpool

import "time"

func cpuTime() time.Duration { return 0 }
