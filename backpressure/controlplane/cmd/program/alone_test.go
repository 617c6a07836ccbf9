package program

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// news is what a controller's Changed is: a channel that the next change closes.
type news struct{ next chan struct{} }

func (n *news) changed() <-chan struct{} { return n.next }

func (n *news) happen() {
	old := n.next
	n.next = make(chan struct{})
	close(old)
	synctest.Wait()
}

func TestOneProcessorWhileItIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &news{make(chan struct{})}
		var one atomic.Bool
		var late atomic.Int64
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			processors{
				one:  func() { one.Store(true) },
				all:  func() { one.Store(false) },
				late: func(time.Time) time.Duration { return time.Duration(late.Load()) },
			}.spare(ctx, n.changed)
			close(ended)
		}()
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		synctest.Wait()
		require.True(t, one.Load())
		pass(time.Hour)
		require.True(t, one.Load())

		n.happen()
		require.False(t, one.Load(), "a wave goes out")
		pass(settled - time.Second)
		n.happen()
		pass(settled - time.Millisecond)
		require.False(t, one.Load(), "the decision still moves")
		pass(2 * time.Millisecond)
		require.True(t, one.Load())

		late.Store(int64(lateness))
		pass((lateLooks - 1) * look)
		late.Store(0)
		pass(look)
		late.Store(int64(lateness))
		pass((lateLooks - 1) * look)
		require.True(t, one.Load(), "now and then late is no lack")
		pass(look)
		require.False(t, one.Load())
		pass(relieved - look)
		require.False(t, one.Load(), "it would not be enough")
		late.Store(0)
		pass(look)
		require.True(t, one.Load())

		stop()
		<-ended
		require.False(t, one.Load(), "as it was")
	})
}
