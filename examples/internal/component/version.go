package component

import (
	"runtime/debug"
	"sync"
)

// Version is the version under which this program was built: that of a release
// or of a commit, "dev" where the build knows neither.
var Version = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return development
	}
	return versionOf(info)
})

const development = "dev"

func versionOf(info *debug.BuildInfo) string {
	switch v := info.Main.Version; v {
	case "", "(devel)":
		return development
	default:
		return v
	}
}
