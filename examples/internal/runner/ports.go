package runner

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/withobsrvr/sluice/examples/internal/component"
)

// Ports are the TCP ports of the pipeline by name; 0 asks for any free one.
// It is the value of -ports.
type Ports map[string]int

var shortNames = map[component.Role]string{
	component.RoleControlPlane: "control",
	component.RoleSource:       "source",
	component.RoleProcessor:    "processor",
	component.RoleSink:         "sink",
}

const httpSuffix = "-http"

// DefaultPorts returns the documented ports.
func DefaultPorts() Ports {
	p := Ports{}
	for role, name := range shortNames {
		p[name], p[name+httpSuffix] = role.DefaultPorts()
	}
	return p
}

// PortNames returns the names that -ports takes, in the order in which the
// components start.
func PortNames() []string {
	var names []string
	for _, role := range component.Roles {
		names = append(names, shortNames[role], shortNames[role]+httpSuffix)
	}
	return names
}

// Of returns the two ports of a component.
func (p Ports) Of(role component.Role) (grpc, http int) {
	return p[shortNames[role]], p[shortNames[role]+httpSuffix]
}

// String shows what differs from the default.
func (p *Ports) String() string {
	if p == nil || *p == nil || maps.Equal(*p, DefaultPorts()) {
		return ""
	}
	var parts []string
	for _, name := range PortNames() {
		parts = append(parts, fmt.Sprintf("%s=%d", name, (*p)[name]))
	}
	return strings.Join(parts, ",")
}

// Set reads auto, or NAME=PORT pairs that change the default.
func (p *Ports) Set(text string) error {
	ports := DefaultPorts()
	if text == "auto" {
		for name := range ports {
			ports[name] = 0
		}
		*p = ports
		return nil
	}
	var errs []error
	for pair := range strings.SplitSeq(text, ",") {
		name, number, _ := strings.Cut(strings.TrimSpace(pair), "=")
		port, err := strconv.ParseUint(number, 10, 16)
		if _, known := ports[name]; !known || err != nil {
			errs = append(
				errs,
				fmt.Errorf(
					"%q: want auto, or NAME=PORT with a name of %s and a port from 0 to 65535",
					pair,
					strings.Join(PortNames(), ", "),
				),
			)
			continue
		}
		ports[name] = int(port)
	}
	taken := map[int]string{}
	for _, name := range PortNames() {
		port := ports[name]
		if other, ok := taken[port]; ok && port != 0 {
			errs = append(errs, fmt.Errorf("%s and %s both have port %d", other, name, port))
		}
		taken[port] = name
	}
	*p = ports
	return errors.Join(errs...)
}

// Check says which ports are taken, and which flag changes them. A port can
// still be taken between this look and the component's own: then the component
// says so.
func (p Ports) Check(host string) error {
	var errs []error
	for _, name := range slices.DeleteFunc(PortNames(), func(name string) bool { return p[name] == 0 }) {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p[name])))
		if err != nil {
			errs = append(
				errs,
				fmt.Errorf(
					"port %d for %s is not free: choose another with -ports %s=PORT, or any free ones with -ports auto (%w)",
					p[name],
					name,
					name,
					err,
				),
			)
			continue
		}
		listener.Close()
	}
	return errors.Join(errs...)
}
