package component_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/component"
)

// Whatever the environment holds, every value is used or rejected under its name,
// and an error is bounded.
func FuzzEnv(f *testing.F) {
	for _, text := range []string{
		"", "7", "-1", "1h", "true", "localhost:7", "NaN", "1e400", "::", "https://u:p@h/x?y=z",
		strings.Repeat("9", 500),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		env := component.NewEnv(func(string) (string, bool) { return text, true })
		c := component.ReadConfig(env, component.RoleSink)
		env.URL("RPC_URL", "")
		env.Ledger("START_LEDGER", 0, "")
		for _, err := range env.Rejected() {
			refused, ok := errors.AsType[*component.EnvError](err)
			require.True(t, ok)
			require.NotEmpty(t, refused.Name)
			require.Less(t, len(err.Error()), 2048)
		}
		require.Positive(t, c.MaxMessages)
		require.LessOrEqual(t, c.Pool.Min, 1000)
	})
}

// What a URL says behind its host appears in no text, however it is written.
func FuzzRedactor(f *testing.F) {
	f.Add("https://user:password@host/key-0123456789abcdef?token=abcdef",
		"GET https://user:password@host/key-0123456789abcdef?token=abcdef: EOF")
	f.Add("https://host/?a=%41%42%43%44&b=AB", "ABCD")
	f.Fuzz(func(t *testing.T, url, text string) {
		var r component.Redactor
		r.AddURL(url)
		got := r.Text(text)
		require.LessOrEqual(t, len(got), 2048+len("[secret]"))
		require.Equal(t, r.Replace(text), r.Replace(text), "the same every time")
	})
}

// Secrets appear in no log line, error or status, and a line is bounded.
func TestRedactorTakesSecretsOut(t *testing.T) {
	env := environment(map[string]string{
		"RPC_URL": "https://user:pass-word@rpc.example.com/v1/0123456789abcdef0123/?token=t0k3n&x=ab%2Fcd",
	})
	env.URL("RPC_URL", "")
	c := component.ReadConfig(env, component.RoleSource)
	secrets := []string{"pass-word", "user:pass-word", "0123456789abcdef0123", "t0k3n", "ab/cd", "ab%2Fcd"}
	for _, secret := range secrets {
		for _, text := range []string{secret, "Get \"https://x/" + secret + "\": EOF"} {
			require.NotContains(t, env.Redactor().Replace(text), secret)
			err := env.Redactor().Error(errors.New(text))
			require.NotContains(t, err.Error(), secret)
		}
	}
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		c.LogFormat, c.LogLevel = format, "debug"
		log := c.NewLogger(&out)
		log.Error("failed at "+secrets[0], "url", "https://"+secrets[1], "error", errors.New(secrets[2]),
			slog.Group("request", "query", secrets[3]), "any", map[string]string{"k": secrets[4]}, "long", strings.Repeat("x",
				1<<20))
		for _, secret := range secrets {
			require.NotContains(t, out.String(), secret)
		}
		require.Less(t, out.Len(), 4<<10)
		require.Contains(t, out.String(), "level")
		require.Contains(t, out.String(), "ERROR")
	}
	var none *component.Redactor
	require.Equal(t, "text", none.Text("text"))
}
