package connpool_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/connpool/connpooltest"
	"google.golang.org/grpc/credentials/insecure"
)

// A pool without a minimum costs nothing while nobody uses it: three hundred of
// them have no connection, no goroutine and no timer, before the first call and
// again after the last.
func TestIdlePoolsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pools = 300
		server := connpooltest.NewServer(connpooltest.Behavior{})
		defer server.Stop()
		manager, err := connpool.NewManager(connpool.Config{
			Credentials: insecure.NewCredentials(), DialOptions: server.DialOptions(), MinConnections: -1,
		})
		require.NoError(t, err)
		defer manager.Close()
		before := goroutines("synctest bubble") // not those that an earlier test left to end
		each := func(use func(*connpool.Pool)) {
			for i := range pools {
				pool, err := manager.Get(fmt.Sprintf("passthrough:///endpoint-%d", i))
				require.NoError(t, err)
				use(pool)
			}
		}
		each(func(*connpool.Pool) {})
		synctest.Wait()
		require.Equal(t, before, goroutines("synctest bubble"))
		require.Zero(t, server.Counts().Dials)

		each(func(p *connpool.Pool) { require.NoError(t, connpooltest.Call(t.Context(), p)) })
		synctest.Wait()
		require.Equal(t, pools, server.Counts().Open)

		time.Sleep(10 * time.Minute) // IdleTimeout, and a review
		require.Zero(t, server.Counts().Open)
		require.Equal(t, before, goroutines("synctest bubble"))
		each(func(p *connpool.Pool) { require.NoError(t, connpooltest.Call(t.Context(), p)) })
	})
}

// What an open connection costs beside gRPC's own goroutines, while it is idle.
func TestIdleConnectionHasOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const connections = 100
		server := connpooltest.NewServer(connpooltest.Behavior{})
		defer server.Stop()
		pool, err := connpool.New(connpooltest.Target, connpool.Config{
			Credentials: insecure.NewCredentials(), DialOptions: server.DialOptions(), MinConnections: connections,
		})
		require.NoError(t, err)
		defer pool.Close()
		time.Sleep(time.Second)
		require.Equal(t, connections, pool.Stats().IdleConnections)
		require.Equal(t, connections, goroutines("sluice/connpool.(*Pool)"))
	})
}

// goroutines is how many there are whose stack contains text.
func goroutines(text string) (n int) {
	stacks := make([]byte, 16<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, text) {
			n++
		}
	}
	return n
}
