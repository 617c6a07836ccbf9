package interceptors

import (
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
)

// fill sets every field to something that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field)
		}
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint32:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Func:
		v.Set(reflect.MakeFunc(v.Type(), func([]reflect.Value) []reflect.Value { return nil }))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	}
}

// No field is lost on the way through the defaults.
func TestDefaultsKeepWhatIsSet(t *testing.T) {
	var s ServerConfig
	fill(reflect.ValueOf(&s).Elem())
	var c ClientConfig
	fill(reflect.ValueOf(&c).Elem())
	for _, pair := range [][2]any{{s, s.withDefaults()}, {c, c.withDefaults()}} {
		before, after := reflect.ValueOf(pair[0]), reflect.ValueOf(pair[1])
		for i := range before.NumField() {
			name := before.Type().Field(i).Name
			if before.Field(i).Kind() == reflect.Func {
				require.False(t, after.Field(i).IsNil(), name)
				continue
			}
			require.Equal(t, before.Field(i).Interface(), after.Field(i).Interface(), name)
		}
	}
}

func TestDefaults(t *testing.T) {
	s := ServerConfig{}.withDefaults()
	require.NoError(t, s.validate())
	require.Equal(t, defaultMaxActiveStreams, s.MaxActiveStreams)
	require.Equal(t, Guards{defaultMaxMessageBytes, defaultMaxUncompressedBytes, defaultMaxRatio}, s.Guards)
	require.Equal(
		t,
		Codes{codes.Unavailable, codes.ResourceExhausted, codes.InvalidArgument, codes.Unavailable, codes.Aborted},
		s.Codes,
	)
	require.Equal(t, 5*time.Minute, s.StallTimeout)
	require.IsType(t, &slog.Logger{}, s.Logger)
	require.NoError(t, ClientConfig{}.withDefaults().validate())
}
