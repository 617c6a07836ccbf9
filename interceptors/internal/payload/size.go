package payload

import (
	"reflect"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

// Size returns the size of a message that is no FlightData. A protobuf is
// measured, all of its fields; what a codec of a proxy passes on, its frames, is as
// long as it says or as its bytes are.
func Size(m any) int64 {
	switch m := m.(type) {
	case proto.Message:
		return int64(proto.Size(m))
	case interface{ Size() int }:
		return int64(max(m.Size(), 0))
	case interface{ Len() int }:
		return int64(max(m.Len(), 0))
	case protoadapt.MessageV1:
		return int64(proto.Size(protoadapt.MessageV2Of(m)))
	case nil:
		return 0
	}
	return bytesIn(reflect.ValueOf(m), frameDepth)
}

// frameDepth is how deep a frame's bytes may lie in pointers, slices and structs.
const frameDepth = 8

// bytesIn sums the bytes and strings that v consists of. The fields of a frame
// are often not exported: their lengths can be read all the same.
func bytesIn(v reflect.Value, depth int) (n int64) {
	if depth == 0 {
		return 0
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return bytesIn(v.Elem(), depth-1)
	case reflect.String:
		return int64(v.Len())
	case reflect.Slice, reflect.Array:
		switch v.Type().Elem().Kind() {
		case reflect.Uint8:
			return int64(v.Len())
		case reflect.Slice, reflect.String, reflect.Pointer, reflect.Interface, reflect.Struct:
			for i := range v.Len() {
				n += bytesIn(v.Index(i), depth-1)
			}
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			n += bytesIn(field, depth-1)
		}
	}
	return n
}
